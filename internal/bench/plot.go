package bench

import (
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// plot is a line chart. It is written as SVG that needs nothing else and
// follows its reader's light or dark scheme.
type plot struct {
	name   string // of its file, without .svg
	title  string
	about  string // in words, for those who cannot see it
	x, y   axis
	series []series
	bands  []band
}

type axis struct {
	label string
	log   bool
	from  float64 // least value shown at least; on a logarithmic axis > 0
}

// series is a line; those with one color belong together.
type series struct {
	name   string
	color  int
	dashed bool
	dots   bool
	points []point
}

type point struct{ x, y float64 }

// band is a stretch of x that is marked; one without width is a line.
type band struct {
	from, to float64
	label    string
}

// Places of a plot in pixels.
const (
	plotWidth, plotHeight               = 860, 420
	plotLeft, plotRight, plotTop, plotB = 74, 210, 56, 56
)

const plotStyle = `
  text { font: 12px system-ui, sans-serif; fill: #59636e; } .title { font-size: 16px; font-weight: 600; fill: #1f2328; }
  .paper { fill: #ffffff; } .grid { stroke: #d8dee4; } .band { fill: #ffd33d; fill-opacity: 0.25; }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
  .c0 { stroke: #0969da; } .c1 { stroke: #bc4c00; } .c2 { stroke: #1a7f37; } .c3 { stroke: #8250df; } .c4 { stroke: #cf222e; } .c5 { stroke: #57606a; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; } .title { fill: #f0f6fc; } .paper { fill: #0d1117; } .grid { stroke: #30363d; } .band { fill: #d29922; }
    .c0 { stroke: #58a6ff; } .c1 { stroke: #f0883e; } .c2 { stroke: #3fb950; } .c3 { stroke: #bc8cff; } .c4 { stroke: #ff7b72; } .c5 { stroke: #b1bac4; }
  }
`

// colors is how many there are in plotStyle.
const colors = 6

// scale maps values of an axis to pixels.
type scale struct {
	axis
	low, high float64
	a, b      float64 // pixels of low and high
	ticks     []float64
}

func newScale(a axis, values []float64, from, to float64) scale {
	s := scale{axis: a, a: from, b: to, low: math.Inf(1), high: math.Inf(-1)}
	for _, v := range values {
		if a.log && v <= 0 {
			continue
		}
		s.low, s.high = min(s.low, v), max(s.high, v)
	}
	if a.from > 0 || !a.log {
		s.low = min(s.low, a.from)
	}
	if math.IsInf(s.high, 0) || math.IsInf(s.low, 0) {
		s.low, s.high = 1, 10
	}
	if a.log {
		first, last := math.Floor(math.Log10(s.low)+1e-9), math.Ceil(math.Log10(s.high)-1e-9)
		if first == last {
			last++
		}
		s.low, s.high = math.Pow(10, first), math.Pow(10, last)
		for e := first; e <= last; e++ {
			s.ticks = append(s.ticks, math.Pow(10, e))
		}
		return s
	}
	if s.high <= s.low {
		s.high = s.low + 1
	}
	step := niceStep((s.high - s.low) / 6)
	s.low, s.high = math.Floor(s.low/step+1e-9)*step, math.Ceil(s.high/step-1e-9)*step
	for i := 0; ; i++ {
		t := s.low + float64(i)*step
		if t > s.high+step/2 {
			return s
		}
		s.ticks = append(s.ticks, t)
	}
}

// niceStep is the least of 1, 2, 5, 10, 20 ... and their fractions that is not
// below v.
func niceStep(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*p >= v*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}

func (s *scale) at(v float64) float64 {
	low, high := s.low, s.high
	if s.log {
		v, low, high = math.Log10(max(v, s.low)), math.Log10(low), math.Log10(high)
	}
	return s.a + (v-low)/(high-low)*(s.b-s.a)
}

func tickText(v float64) string {
	switch {
	case v == math.Trunc(v) && math.Abs(v) >= 1 && math.Abs(v) < 1e15 || v == 0:
		return thousands(int(v))
	default:
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
}

func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// write writes the plot as SVG.
func (p *plot) write(w io.Writer) error {
	var xs, ys []float64
	for _, s := range p.series {
		for _, pt := range s.points {
			xs, ys = append(xs, pt.x), append(ys, pt.y)
		}
	}
	for _, band := range p.bands {
		xs = append(xs, band.from, band.to)
	}
	right, bottom := float64(plotWidth-plotRight), float64(plotHeight-plotB)
	x, y := newScale(p.x, xs, plotLeft, right), newScale(p.y, ys, bottom, plotTop)
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-labelledby="title about">`, plotWidth, plotHeight)
	put(`<title id="title">%s</title>`, html.EscapeString(p.title))
	put(`<desc id="about">%s</desc>`, html.EscapeString(p.about))
	put(`<style>%s</style>`, plotStyle)
	put(`<rect class="paper" width="%d" height="%d"/>`, plotWidth, plotHeight)
	put(`<text class="title" x="%d" y="28">%s</text>`, plotLeft, html.EscapeString(p.title))
	for _, band := range p.bands {
		from, to := x.at(band.from), x.at(band.to)
		if from == to {
			put(`<line class="line c4" x1="%s" x2="%[1]s" y1="%d" y2="%s"/>`, px(from), plotTop, px(bottom))
		} else {
			put(`<rect class="band" x="%s" y="%d" width="%s" height="%s"/>`, px(from), plotTop, px(to-from), px(bottom-plotTop))
		}
		put(`<text x="%s" y="%d">%s</text>`, px(from+4), plotTop+14, html.EscapeString(band.label))
	}
	for _, t := range y.ticks {
		put(`<line class="grid" x1="%d" x2="%s" y1="%s" y2="%[3]s"/>`, plotLeft, px(right), px(y.at(t)))
		put(`<text x="%d" y="%s" text-anchor="end">%s</text>`, plotLeft-8, px(y.at(t)+4), tickText(t))
	}
	for _, t := range x.ticks {
		put(`<line class="grid" x1="%s" x2="%[1]s" y1="%d" y2="%s"/>`, px(x.at(t)), plotTop, px(bottom))
		put(`<text x="%s" y="%s" text-anchor="middle">%s</text>`, px(x.at(t)), px(bottom+18), tickText(t))
	}
	put(`<text x="%s" y="%d" text-anchor="middle">%s</text>`, px((plotLeft+right)/2), plotHeight-14, html.EscapeString(p.x.label))
	put(`<text transform="translate(16 %s) rotate(-90)" text-anchor="middle">%s</text>`, px((plotTop+bottom)/2), html.EscapeString(p.y.label))
	for i, s := range p.series {
		p.draw(put, i, &s, &x, &y)
	}
	put(`</svg>`)
	_, err := io.WriteString(w, b.String())
	return err
}

func (p *plot) draw(put func(string, ...any), i int, s *series, x, y *scale) {
	color := s.color % colors
	dash := ""
	if s.dashed {
		dash = ` stroke-dasharray="5 4"`
	}
	points := make([]string, len(s.points))
	for i, pt := range s.points {
		points[i] = px(x.at(pt.x)) + "," + px(y.at(pt.y))
	}
	put(`<polyline class="line c%d"%s points="%s"/>`, color, dash, strings.Join(points, " "))
	if s.dots {
		for _, pt := range s.points {
			put(`<circle class="line c%d" cx="%s" cy="%s" r="3"/>`, color, px(x.at(pt.x)), px(y.at(pt.y)))
		}
	}
	left, top := plotWidth-plotRight+14, plotTop+6+18*i
	put(`<line class="line c%d"%s x1="%d" x2="%d" y1="%d" y2="%[5]d"/>`, color, dash, left, left+24, top)
	put(`<text x="%d" y="%d">%s</text>`, left+30, top+4, html.EscapeString(s.name))
}

// save writes plots into a folder, which is made when missing.
func save(dir string, plots []plot) error {
	if dir == "" || len(plots) == 0 {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i := range plots {
		f, err := os.Create(filepath.Join(dir, plots[i].name+".svg"))
		if err != nil {
			return err
		}
		if err = plots[i].write(f); err != nil {
			_ = f.Close()
			return err
		}
		if err = f.Close(); err != nil {
			return err
		}
	}
	return nil
}
