"""The HTML page that compares runs. It reads run folders through `analysis` and decides no statistics of its own."""
