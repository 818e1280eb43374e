"""Where version 0.1 had `HostOptimizer`: its pickles name this package."""
