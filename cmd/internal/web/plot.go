package web

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Plot is a figure and the data that it shows, as a table: whoever cannot see the figure reads that.
// The figure has no styles of its own: classes give colours and patterns, for a light and a dark page.
type Plot struct {
	ID      string // unique on the page
	Title   string
	Note    string // what to know to read it; may be empty
	SVG     template.HTML
	Columns []string
	Rows    [][]string
	Legend  []Series // names and classes only
}

// A Series is a row of values of a plot.
type Series struct {
	Name   string
	Class  string // of the style sheet: good, bad, limit, fault, refused, stopped, live, or s1 to s8
	Values []float64
}

// A Mark is what a reader can point at: text for the tooltip, address for a link.
type Mark struct{ Text, Link string }

// An svg collects the elements of a figure.
type svg struct {
	strings.Builder
	width, height float64
}

const (
	plotWidth  = 960.0
	plotHeight = 220.0
	plotLeft   = 56.0 // room for the numbers of the axis
	plotRight  = 8.0
	plotTop    = 10.0
	plotBottom = 24.0
)

func newSVG(id, title string, width, height float64) *svg {
	s := &svg{width: width, height: height}
	fmt.Fprintf(s, `<svg viewBox="0 0 %s %s" role="img" aria-labelledby="%s-title" class="plot"><title id="%[3]s-title">%s</title>`, px(width), px(height), esc(id), esc(title))
	return s
}

func (s *svg) done() template.HTML {
	s.WriteString("</svg>")
	text := s.String()
	if strings.Contains(text, "<a href=") { // what has links is no image, whose parts nobody could reach
		text = strings.Replace(text, `role="img"`, `role="group"`, 1)
	}
	return template.HTML(text)
}

// esc makes a text harmless in an element and in an attribute.
func esc(text string) string { return template.HTMLEscapeString(text) }

// px is a coordinate, to a tenth.
func px(f float64) string { return strconv.FormatFloat(math.Round(f*10)/10, 'f', -1, 64) }

// rect draws a rectangle, with a tooltip and a link where the mark has them.
func (s *svg) rect(x, y, w, h float64, class string, m Mark) {
	s.linked(m, fmt.Sprintf(`<rect x="%s" y="%s" width="%s" height="%s" class="%s">`, px(x), px(y), px(max(w, 0)), px(max(h, 0)), esc(class)), "</rect>")
}

// circle draws a dot.
func (s *svg) circle(x, y, r float64, class string, m Mark) {
	s.linked(m, fmt.Sprintf(`<circle cx="%s" cy="%s" r="%s" class="%s">`, px(x), px(y), px(r), esc(class)), "</circle>")
}

func (s *svg) linked(m Mark, open, end string) {
	if m.Link != "" {
		fmt.Fprintf(s, `<a href="%s">`, esc(m.Link))
	}
	s.WriteString(open)
	if m.Text != "" {
		s.WriteString("<title>" + esc(m.Text) + "</title>")
	}
	s.WriteString(end)
	if m.Link != "" {
		s.WriteString("</a>")
	}
}

// text writes words; anchor is start, middle or end.
func (s *svg) text(x, y float64, anchor, class, words string) {
	fmt.Fprintf(s, `<text x="%s" y="%s" text-anchor="%s" class="%s">%s</text>`, px(x), px(y), anchor, esc(class), esc(words))
}

// line draws a line through points; a gap is NaN.
func (s *svg) line(class string, xs, ys []float64) {
	var path strings.Builder
	pen := "M"
	for i := range xs {
		if math.IsNaN(ys[i]) {
			pen = "M"
			continue
		}
		fmt.Fprintf(&path, "%s%s %s", pen, px(xs[i]), px(ys[i]))
		pen = "L"
	}
	fmt.Fprintf(s, `<path d="%s" class="line %s"/>`, path.String(), esc(class))
}

// axis draws four lines with their numbers, and returns the place of a value. top is the largest value.
func (s *svg) axis(top float64, number func(float64) string, units ...float64) (y func(float64) float64, nice float64) {
	nice = niceTop(top, units...)
	y = func(v float64) float64 { return s.height - plotBottom - v/nice*(s.height-plotTop-plotBottom) }
	for i := 0; i <= 4; i++ {
		v := nice * float64(i) / 4
		fmt.Fprintf(s, `<line x1="%s" x2="%s" y1="%s" y2="%[3]s" class="grid"/>`, px(plotLeft), px(s.width-plotRight), px(y(v)))
		s.text(plotLeft-6, y(v)+4, "end", "tick", number(v))
	}
	return y, nice
}

// niceTop is the end of an axis that is not below the value: a quarter of it is a short number, too. units
// are what larger values are written in, as 60 for minutes; the end is a short number of those.
func niceTop(v float64, units ...float64) float64 {
	if v <= 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 1
	}
	unit := 1.0
	for _, u := range units {
		if v >= u {
			unit = u
		}
	}
	v /= unit
	power := math.Pow(10, math.Floor(math.Log10(v)))
	steps := []float64{1, 2, 4, 8}
	if power >= 10 { // quarters of these are whole
		steps = []float64{1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8}
	}
	for _, n := range steps {
		if v <= n*power*(1+1e-9) {
			return n * power * unit
		}
	}
	return 10 * power * unit
}

// times writes the times of an axis below it: not more than fit.
func (s *svg) times(l look, at []time.Time, x func(int) float64) {
	if len(at) == 0 {
		return
	}
	layout := "15:04"
	if at[len(at)-1].Sub(at[0]) > 36*time.Hour {
		layout = "01-02"
	}
	step := max(1, (len(at)+9)/10)
	for i := 0; i < len(at); i += step {
		s.text(x(i), s.height-6, "middle", "tick", l.at(at[i], layout))
	}
}

// Stacked is a bar for each time, made of the values of all series. link is the address of a bar; nil:
// there is none.
func (l look) Stacked(id, title string, at []time.Time, series []Series, link func(i int) string) Plot {
	s := newSVG(id, title, plotWidth, plotHeight)
	top := 0.0
	for i := range at {
		sum := 0.0
		for _, one := range series {
			sum += one.Values[i]
		}
		top = max(top, sum)
	}
	if top = max(top, 4); top > 8 && top <= 10 { // the quarters of an axis of counts are whole
		top = 12
	}
	y, _ := s.axis(top, func(v float64) string { return l.brief(v) })
	width := (s.width - plotLeft - plotRight) / float64(max(1, len(at)))
	x := func(i int) float64 { return plotLeft + (float64(i)+0.5)*width }
	for i := range at {
		from := 0.0
		for _, one := range series {
			if v := one.Values[i]; v > 0 {
				m := Mark{Text: fmt.Sprintf("%s: %s %s", l.at(at[i], "2006-01-02 15:04"), l.Number(v), one.Name)}
				if link != nil {
					m.Link = link(i)
				}
				s.rect(x(i)-width*0.4, y(from+v), width*0.8, y(from)-y(from+v), "fill "+one.Class, m)
				from += v
			}
		}
	}
	s.times(l, at, x)
	p := Plot{ID: id, Title: title, SVG: s.done(), Columns: []string{"time"}, Legend: series}
	for _, one := range series {
		p.Columns = append(p.Columns, one.Name)
	}
	for i := range at {
		row := []string{l.at(at[i], "2006-01-02 15:04")}
		for _, one := range series {
			row = append(row, l.Number(one.Values[i]))
		}
		p.Rows = append(p.Rows, row)
	}
	return p
}

// Lines is a line for each series. say writes a value with its unit; NaN is a gap. units: see niceTop.
func (l look) Lines(id, title string, at []time.Time, series []Series, say func(float64) string, units ...float64) Plot {
	s := newSVG(id, title, plotWidth, plotHeight)
	top := 0.0
	for _, one := range series {
		for _, v := range one.Values {
			if !math.IsNaN(v) {
				top = max(top, v)
			}
		}
	}
	y, _ := s.axis(top, say, units...)
	width := (s.width - plotLeft - plotRight) / float64(max(1, len(at)))
	x := func(i int) float64 { return plotLeft + (float64(i)+0.5)*width }
	for _, one := range series {
		xs, ys := make([]float64, len(at)), make([]float64, len(at))
		for i, v := range one.Values {
			xs[i], ys[i] = x(i), math.NaN()
			if !math.IsNaN(v) {
				ys[i] = y(v)
			}
		}
		s.line(one.Class, xs, ys)
		if len(at) <= 200 {
			for i := range at {
				if !math.IsNaN(ys[i]) {
					s.circle(xs[i], ys[i], 2.5, "fill "+one.Class, Mark{Text: fmt.Sprintf("%s: %s %s", l.at(at[i], "2006-01-02 15:04"), one.Name, say(one.Values[i]))})
				}
			}
		}
	}
	s.times(l, at, x)
	p := Plot{ID: id, Title: title, SVG: s.done(), Columns: []string{"time"}, Legend: series}
	for _, one := range series {
		p.Columns = append(p.Columns, one.Name)
	}
	for i := range at {
		row := []string{l.at(at[i], "2006-01-02 15:04")}
		for _, one := range series {
			cell := "–"
			if !math.IsNaN(one.Values[i]) {
				cell = say(one.Values[i])
			}
			row = append(row, cell)
		}
		p.Rows = append(p.Rows, row)
	}
	return p
}

// A Bar is a value against a bound.
type Bar struct {
	Name         string
	Value, Bound float64 // Bound 0: there is none
	Said, Limit  string  // with units, as Limit of "no limit"
	Class        string
	Link         string
}

// Bars is a list of horizontal bars: against their bounds where they have one, else against the largest.
func (l look) Bars(id, title string, columns [3]string, bars []Bar) Plot {
	const row, left = 26.0, 200.0
	s := newSVG(id, title, plotWidth, row*float64(max(1, len(bars)))+4)
	largest := 0.0
	for _, b := range bars {
		largest = max(largest, b.Value)
	}
	p := Plot{ID: id, Title: title, Columns: columns[:]}
	room := s.width - left - 180
	for i, b := range bars {
		y := float64(i) * row
		whole := b.Bound
		if whole <= 0 {
			whole = largest
		}
		part := 0.0
		if whole > 0 {
			part = min(1, b.Value/whole)
		}
		s.text(left-8, y+17, "end", "label", clip(b.Name, 28))
		s.rect(left, y+5, room, row-10, "track", Mark{})
		s.rect(left, y+5, room*part, row-10, "fill "+b.Class, Mark{Text: b.Name + ": " + b.Said, Link: b.Link})
		said := b.Said
		if b.Limit != "" {
			said += " of " + b.Limit
		}
		s.text(left+room+8, y+17, "start", "label", said)
		p.Rows = append(p.Rows, []string{b.Name, b.Said, b.Limit})
	}
	p.SVG = s.done()
	return p
}

// A Cell is one place of a heatmap.
type Cell struct {
	Row, Column int
	Value       float64
	Mark        Mark
}

// Heat is a map of rows and columns, the darker the larger a value is, in five steps. The number stands
// in the tooltip and in the table.
func (l look) Heat(id, title string, rows, columns []string, cells []Cell) Plot {
	const left, top = 80.0, 18.0
	w := (plotWidth - left) / float64(max(1, len(columns)))
	h := min(22.0, max(12, 600/float64(max(1, len(rows)))))
	s := newSVG(id, title, plotWidth, top+h*float64(len(rows))+4)
	largest := 0.0
	values := make([][]float64, len(rows))
	for i := range values {
		values[i] = make([]float64, len(columns))
	}
	for _, c := range cells {
		largest = max(largest, c.Value)
		values[c.Row][c.Column] = c.Value
	}
	for i, name := range columns {
		if len(columns) <= 31 || i%7 == 0 {
			s.text(left+(float64(i)+0.5)*w, 12, "middle", "tick", name)
		}
	}
	for i, name := range rows {
		s.text(left-6, top+(float64(i)+0.5)*h+4, "end", "tick", name)
	}
	for _, c := range cells {
		step := 0
		if c.Value > 0 {
			step = 1 + min(4, int(4.999*math.Sqrt(c.Value/largest)))
		}
		s.rect(left+float64(c.Column)*w+1, top+float64(c.Row)*h+1, w-2, h-2, "heat h"+strconv.Itoa(step), c.Mark)
	}
	p := Plot{ID: id, Title: title, SVG: s.done(), Columns: append([]string{""}, columns...)}
	if largest > 0 {
		p.Note = fmt.Sprintf("The darker, the more; the most is %s.", l.Number(largest))
	}
	for i, name := range rows {
		row := []string{name}
		for _, v := range values[i] {
			row = append(row, l.Number(v))
		}
		p.Rows = append(p.Rows, row)
	}
	return p
}

// A Piece is one piece of a strip.
type Piece struct {
	Weight float64
	Class  string
	Shape  string // a character that differs by class, where there is room
	Mark   Mark
	Row    []string // of the table
}

// Strip is a row of pieces, as wide as their weights, and each wide enough to be seen.
func (l look) Strip(id, title string, columns []string, pieces []Piece) Plot {
	s := newSVG(id, title, plotWidth, 34)
	sum := 0.0
	for _, one := range pieces {
		sum += one.Weight
	}
	least := 3.0
	room := s.width - least*float64(len(pieces))
	x := 0.0
	p := Plot{ID: id, Title: title, Columns: columns}
	for _, one := range pieces {
		w := least
		if sum > 0 && room > 0 {
			w += room * one.Weight / sum
		}
		s.rect(x, 4, max(1, w-1), 26, "fill "+one.Class, one.Mark)
		if one.Shape != "" && w >= 14 {
			s.text(x+w/2, 21, "middle", "on", one.Shape)
		}
		x += w
		p.Rows = append(p.Rows, one.Row)
	}
	p.SVG = s.done()
	return p
}

// Dots is a small row of dots, the oldest first, without a table: for a cell of one.
func (l look) Dots(id, title string, dots []Mark, classes []string) template.HTML {
	s := newSVG(id, title, float64(12*max(1, len(dots))), 12)
	for i, m := range dots {
		if strings.Contains(classes[i], "good") { // by shape, too
			s.circle(float64(i)*12+6, 6, 3.5, "fill "+classes[i], m)
		} else {
			s.rect(float64(i)*12+2, 2, 8, 8, "fill "+classes[i], m)
		}
	}
	return s.done()
}

// brief is a number of an axis.
func (l look) brief(v float64) string {
	switch {
	case v >= 1e6:
		return l.Fixed(v/1e6, 1) + " M"
	case v >= 1e4:
		return l.Fixed(v/1e3, 0) + " k"
	case v == math.Trunc(v):
		return l.Fixed(v, 0)
	}
	return l.Fixed(v, 2)
}

// clip shortens a name, with an ellipsis.
func clip(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}
