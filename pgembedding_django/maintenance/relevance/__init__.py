"""How well a search answers questions whose right answers people have named."""
