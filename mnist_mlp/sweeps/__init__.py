"""The jobs of a sweep, however they came to be: side by side in workers, what is seen of them, and the end. It knows no
Hydra."""
