package bench

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress says which stage is measured: a line for each, and on a terminal
// how far it is.
type progress struct {
	w        io.Writer
	terminal bool
	stage    string
	began    time.Time
	told     time.Time
	width    int  // of what the terminal shows now
	broken   bool // the stage's line was ended to say something
}

func (p *progress) begin(stage string) {
	p.stage, p.began, p.told, p.broken = stage, time.Now(), time.Time{}, false
	if p.terminal {
		p.show("measuring " + stage + " ...")
		return
	}
	_, _ = fmt.Fprintf(p.w, "measuring %s ...", stage)
}

// step says how far the stage is; it may be called at any rate.
func (p *progress) step(format string, args ...any) {
	if now := time.Now(); p.terminal && now.Sub(p.told) > 200*time.Millisecond {
		p.told = now
		p.show(fmt.Sprintf("measuring %s ... %.0f s, %s", p.stage, now.Sub(p.began).Seconds(), fmt.Sprintf(format, args...)))
	}
}

// say writes a line that stays, within a stage.
func (p *progress) say(format string, args ...any) {
	line := "  " + fmt.Sprintf(format, args...)
	if p.terminal {
		p.show(line)
		_, _ = io.WriteString(p.w, "\n")
		p.width = 0
		return
	}
	if !p.broken {
		_, _ = io.WriteString(p.w, "\n")
		p.broken = true
	}
	_, _ = fmt.Fprintln(p.w, line)
}

func (p *progress) end() {
	took := time.Since(p.began).Seconds()
	if p.terminal {
		p.show(fmt.Sprintf("measuring %s ... %.1f s", p.stage, took))
		_, _ = io.WriteString(p.w, "\n")
		p.width = 0
		return
	}
	if p.broken {
		_, _ = fmt.Fprintf(p.w, "measuring %s ...", p.stage)
	}
	_, _ = fmt.Fprintf(p.w, " %.1f s\n", took)
}

// show writes over the line that is there.
func (p *progress) show(line string) {
	_, _ = fmt.Fprintf(p.w, "\r%s%s", line, strings.Repeat(" ", max(0, p.width-len(line))))
	p.width = len(line)
}
