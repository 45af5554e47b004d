"""What differs between versions of Django and the drivers, and every use of their private API."""
