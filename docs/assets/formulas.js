// Sets the formulas that pymdownx.arithmatex marks, also when the theme loads a page without leaving the last one.
document$.subscribe(() => {
  for (const each of document.querySelectorAll(".arithmatex")) {
    const text = each.textContent.trim()
    if (text.startsWith("\\(") || text.startsWith("\\[")) {
      const shown = { displayMode: text.startsWith("\\["), throwOnError: true }
      katex.render(text.slice(2, -2), each, shown)
    }
  }
})
