// Show a chart's text `empty` instead of the axes if it has no data. The dashboards' own code calls vegaEmbed.
'use strict'

let embed

Object.defineProperty(window, 'vegaEmbed', {
  get: () => embed,
  set(original) {
    embed = (element, spec) => {
      if (spec.data.values.length > 0) return original(element, spec)
      const text = document.createElement('p')
      text.className = 'empty'
      text.textContent = spec.usermeta.empty
      element.replaceChildren(text)
    }
  },
})
