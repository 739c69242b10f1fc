"""A trained net in use: found by name, loaded safely, evaluated, shown pictures, exported."""
