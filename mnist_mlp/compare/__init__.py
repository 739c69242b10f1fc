"""Runs read back and compared: collecting, statistics, effects, diagnosis, summary tables. Takes run folders, returns
plain data; imports no torch and draws nothing."""
