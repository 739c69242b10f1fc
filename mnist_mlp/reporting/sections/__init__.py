"""The sections of the page, one module each: functions from jobs to `elements.Section`."""
