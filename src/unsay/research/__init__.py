"""For who compares methods: sweeps, fronts, held-out at par, the theory."""
