"""What every room shares: settings, errors, seeds, devices, statistics and the run folder."""
