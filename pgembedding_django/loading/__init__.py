"""Many rows at once, through binary COPY."""
