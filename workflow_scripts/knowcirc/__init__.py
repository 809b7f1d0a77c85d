"""Find, measure and edit the circuits by which a language model says a fact.

Import from the modules (`knowcirc.circuits.attribution`, ...): the packages re-export nothing, so that a
workflow rule depends on exactly the modules that its script uses.
"""
