"""How the story looks at a terminal: chapters, what each step shows, the command that does the same, bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table


class Narrator:
    """Prints to a console. Bars go away when their step is over; lines stay."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def chapter(self, title: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{escape(title)}[/bold]", align="left", style="cyan")

    def command(self, text: str) -> None:
        """The command line by which anyone does the same."""
        self.console.print(f"  [dim]$ openledger {escape(text)}[/dim]", highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self.console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)

    def done(self, text: str) -> None:
        self.console.print(f"  [green]✓[/green] {escape(text)}", highlight=False, soft_wrap=True)

    def already(self, title: str) -> None:
        self.console.print(f"  [green]✓[/green] [dim]{escape(title)} (done before)[/dim]", highlight=False)

    def waiting(self, reason: str) -> None:
        self.console.print(
            f"  [yellow]waiting for the node:[/yellow] {escape(reason)}", highlight=False, soft_wrap=True
        )

    def write(self, text: str) -> None:
        """A piece of a line."""
        self.console.print(text, end="", markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bars(self) -> Iterator[Progress]:
        """Bars with a field `note` after them."""
        progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=32),
            TextColumn("[cyan]{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        with progress:
            yield progress

    @contextmanager
    def spinner(self, description: str) -> Iterator[Progress]:
        """For what has no measure: a spinner with a field `note`."""
        progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("[cyan]{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        progress.add_task(description, total=None, note="")
        with progress:
            yield progress

    def timings(self, rows: list[tuple[str, float]]) -> None:
        """Wall time by step."""
        table = Table("step", "seconds", title="wall time", title_justify="left", box=None)
        table.columns[1].justify = "right"
        for title, seconds in rows:
            table.add_row(title, f"{seconds:.1f}")
        table.add_row("[bold]together[/bold]", f"[bold]{sum(seconds for _, seconds in rows):.1f}[/bold]")
        self.console.print()
        self.console.print(table)
