"""What is measured beside training: deployment, trigger grid, reward access, pressure, monitors."""
