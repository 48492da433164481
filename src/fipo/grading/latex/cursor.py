"""A place in a row of tokens, and what can be taken from there."""

from collections.abc import Sequence

from fipo.grading.latex.tokens import Token, Unreadable


class Cursor:
    """Its methods raise Unreadable where something else stands than what they take."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = list(tokens)
        self.at = 0

    @property
    def token(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    @property
    def key(self) -> str:
        """What comes next: a sign as it is, a command with its backslash, else the kind; empty at the end."""
        token = self.token
        if token is None:
            return ""
        if token.kind == "sign":
            return token.text
        return f"\\{token.text}" if token.kind == "command" else token.kind

    def take(self) -> Token:
        token = self.token
        if token is None:
            raise Unreadable("a formula must not end here")
        self.at += 1
        return token

    def expect(self, key: str) -> None:
        if self.key != key:
            raise Unreadable(f"{key!r} must come here, got {self.key!r}")
        self.at += 1

    def index(self) -> str:
        """`_{12}'` or nothing: a part of a name."""
        text = ""
        while self.key in ("_", "'"):
            self.at += 1
            text += "'" if self.tokens[self.at - 1].text == "'" else f"_{self.subscript()}"
        return text

    def subscript(self) -> str:
        """The text of the next part, or of all in its braces."""
        if self.key != "{":
            return self.take().text
        return "".join(token.text for token in self.group())

    def group(self) -> list[Token]:
        """The tokens in the braces that begin here."""
        self.expect("{")
        found: list[Token] = []
        depth = 1
        while True:
            token = self.take()
            if token.kind == "sign":
                depth += (token.text == "{") - (token.text == "}")
            if depth == 0:
                return found
            found.append(token)

    def rows(self) -> list[list[list[Token]]]:
        r"""The cells of a matrix up to its \end, without rows that are empty."""
        rows: list[list[list[Token]]] = [[[]]]
        while self.key != "\\end":
            token = self.take()
            if token.text == "\\\\":
                rows.append([[]])
            elif token.text == "&":
                rows[-1].append([])
            else:
                rows[-1][-1].append(token)
        self.at += 1
        self.group()
        rows = [row for row in rows if row != [[]]]
        if len({len(row) for row in rows}) != 1:
            raise Unreadable("the rows of a matrix must be equally long")
        return rows
