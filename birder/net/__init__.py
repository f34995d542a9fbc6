"""Networks: torch modules in the Birder format's parameter names."""
