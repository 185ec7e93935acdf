"""How a hypervisor is told."""
