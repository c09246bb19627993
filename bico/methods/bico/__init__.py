"""BiCo: binders tie concepts of a source to the words of its captions, so that these words carry them to any prompt.

Training: all words of the diversified captions pass through the binder, together with an absorption token for what no
word names. First only the global binder trains, at high noise, then all binders. A video trains on its single frames
first, with spatial captions; then a temporal branch is added on the whole clip (TDS). Composing: each bound word of the
target prompt passes through the binder of its source. All other tokens stay as they are, and the unconditional pass has
no binder.
"""
