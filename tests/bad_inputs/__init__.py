"""The table of bad inputs: a situation, a call, and the sentence that it must be refused with, one
row each.
"""
