"""The records that cross seams or touch disk: frozen, keyword-only, strict about unknown fields.

Every record is a `msgspec.Struct`; units stand in the field names, `None` always means *unknown or not measured*
(never zero), and whatever touches disk carries `schema_version`.
"""
