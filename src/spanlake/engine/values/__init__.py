"""Operations on typed columns (model.scan.Values): no rows, no spans, no query; only arrays, dictionaries and constants.

Inside the engine a column may have several parts of one type, over different rows: that is what the first of two columns is.
"""
