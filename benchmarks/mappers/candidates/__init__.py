"""The candidates, each in a module of its own with a class `Candidate`."""
