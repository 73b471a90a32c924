"use strict";
(function () {
  var options = {
    displaylogo: false,
    displayModeBar: "hover",
    toImageButtonOptions: { format: "svg", filename: "figure" },
    responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  };
  var plots = Array.prototype.slice.call(document.querySelectorAll(".plot"));
  plots.forEach(function (plot) {
    var figure = JSON.parse(document.getElementById(plot.id + "-data").textContent);
    Plotly.newPlot(plot, figure.data, figure.layout, options);
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (part) { part.open = true; });
    plots.forEach(function (plot) { Plotly.Plots.resize(plot); });
  });
})();
