"""How values of each declared type are checked, stored and read."""
