"""How models are called, whatever library their objects are of."""
