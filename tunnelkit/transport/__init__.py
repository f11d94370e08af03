"""How agent and relay reach each other."""
