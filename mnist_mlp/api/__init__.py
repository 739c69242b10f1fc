"""What `import mnist_mlp` offers: fit, sweep, Run and Sweep. It calls the other packages and shows what they return, as
text and, in notebooks, as HTML; it trains, measures and decides nothing itself."""
