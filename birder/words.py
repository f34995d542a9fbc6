"""Numbers in sentences."""


def counted(number: int, thing: str, things: str = "") -> str:
    """A number of things: "1 row", "1,200 rows"; `things` says the plural where it is not `thing` with an s.

    Examples
    --------
    >>> counted(1, "image has", "images have")
    '1 image has'
    >>> counted(1200, "row")
    '1,200 rows'
    """
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"
