"""Every bundled study at its smallest size: does it still run from its file to its report? `make studies-smoke`."""
