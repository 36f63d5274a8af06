"""Published recipes as settings, one YAML file each."""
