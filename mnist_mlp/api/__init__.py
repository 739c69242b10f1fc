"""The Python door: what `import mnist_mlp` offers. Calls the other rooms and shows what they found, as text and, for
notebooks, as HTML; trains, measures and decides nothing itself."""
