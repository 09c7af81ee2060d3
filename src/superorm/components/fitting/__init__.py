"""Training of models. What is of a library is in a module of its own, imported where it is needed."""
