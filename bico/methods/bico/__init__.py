"""BiCo: binders tie a source's concepts to the words of its captions; words of any prompt then carry them along.

Learning: all words of the diversified captions pass through the binder, beside them an absorption token that takes up
what no word names; first the global binder alone at high noise, then all binders. A video trains on its single frames
first, with spatial captions, then a temporal branch opens on the whole clip (TDS). Composing: each bound word of the
target prompt passes through its own source's binder, every other token stays as it is, and the unconditional pass never
sees a binder.
"""
