"""Single cells to pseudobulk, cell-type profiles and mixtures.

- ``cells``: opens single-cell data for reading in blocks.
- ``groups``: assigns cells to donors, cell types and halves.
- ``sums``: sums of counts over groups, in blocks.
- ``mixtures``: mixtures of a donor's cell types in new proportions.
- ``pseudobulk``: makes pseudobulk, profiles and mixtures from all of these.
- ``files``: files of a pseudobulk folder.
- ``donors``: donors and their cell types mapped to a model's genes, split by donor.
"""
