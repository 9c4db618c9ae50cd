"""What every other room needs and what needs none of them: settings, errors, files, records."""
