"""What commands, the admin and users share."""
