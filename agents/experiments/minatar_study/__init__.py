"""Width x head on MinAtar: is HL-Gauss better than MSE in a wide network, and does the width matter?

python -m agents.experiments.minatar_study --jobs 2
"""
