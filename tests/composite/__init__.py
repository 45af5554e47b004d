"""An app of a model with a composite primary key, which a test installs when it needs it: see `leaves`."""
