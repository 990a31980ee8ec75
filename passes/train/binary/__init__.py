"""Binary networks: what stands for signs and their gradients, and how a network of floats becomes one."""
