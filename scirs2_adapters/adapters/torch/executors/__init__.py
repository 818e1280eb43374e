"""Ways to step parameters: by the CPU kernel, by a kernel of their device, in torch operations, under compilation."""
