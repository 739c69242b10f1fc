#!/bin/sh
# Reproduces the runs of this publication that have a result with mnist_mlp and compares them.
# Original runs: commit << study.environment("commit") >>, PyTorch << study.environment("torch") >>.
set -e
<% for command in commands %>
python -m mnist_mlp.train << command >>
<% endfor %>
python -m mnist_mlp.report << folders | join(" ") >> --publish paper
