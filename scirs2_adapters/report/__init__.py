"""What this package does on this machine, measured: `scirs2 report` writes one page of HTML and its figures."""
