"""The networks. They know no loss, no data and no configuration."""
