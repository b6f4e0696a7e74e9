"""Orders in which the FFN channels of a block leave, one criterion a file; what is kept longest stands first."""

__all__: list[str] = []
