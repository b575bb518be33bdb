package ui_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/belfryhq/belfry/internal/web/ui"
)

// browser starts a headless Chromium and gives a context of one tab. What the
// page complains of in the console fails the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := os.Getenv("BELFRY_TEST_BROWSER")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "headless_shell"} {
		if found, err := exec.LookPath(name); path == "" && err == nil {
			path = found
		}
	}
	if path == "" {
		t.Fatal("this test needs a browser: install the Debian package chromium (make test does), or name one in BELFRY_TEST_BROWSER")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU, chromedp.WindowSize(1280, 1000),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(time.Minute))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses its sandbox to root
	}
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	if err := chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("script fault: %s %s", ev.ExceptionDetails.Text, ev.ExceptionDetails.URL)
		case *log.EventEntryAdded:
			// The mail holds a script on purpose; that its frame refuses to
			// run it is the point.
			if ev.Entry.Level == log.EntryLevelError && !strings.Contains(ev.Entry.Text, "sandboxed") {
				t.Errorf("console: %s", ev.Entry.Text)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// shoot keeps a picture of the page when BELFRY_TEST_PICTURES names a folder.
func shoot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("BELFRY_TEST_PICTURES")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// One click, and what comes of it appears by itself, in a real browser.
func TestInTheBrowser(t *testing.T) {
	s := serve(t)
	ctx := browser(t)
	run := func(what string, actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, actions...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	says := func(selector, text string) chromedp.Action[chromedp.Void] {
		return chromedp.Poll[chromedp.Void](fmt.Sprintf(`(document.querySelector(%q)?.innerText ?? "").includes(%q)`, selector, text))
	}
	run("opening", chromedp.Navigate(s.URL+"/demo/"), says("#story", "It is quiet"))
	shoot(t, ctx, "quiet")
	run("a click", chromedp.Click(chromedp.CSS(`button[value="course"]`)), says("#part-summary", "still under way"), says("#moments", "Henrik moves the exam"))
	id := eventID(s.house.newest())
	address := ask[string](t, ctx, `location.href`)
	if want := s.URL + "/demo/?event=" + id; address != want && address != want+"#story" {
		t.Errorf("address %s, want %s", address, want)
	}

	// Nobody reloads from here on.
	run("marking the page", chromedp.Evaluate[chromedp.Void](`window.marked = true`))
	s.house.plan(id)
	run("the plan", says("#part-people", "Ada Byron"), says("#part-people", "Muted, at Mechanics"), says("#part-inbox", "Course changed in Mechanics"))
	s.catcher.get([]ui.Mail{mailOf(id, 1)}, []ui.Hook{hookOf(id, 2, 204)})
	run("mail and webhook", says("#part-mail", "Course changed: Mechanics"), says("#part-hook", "signature verified"))

	// A part that does not change stays as the reader left it.
	run("opening the text", chromedp.Click(chromedp.CSS("#mail-1-text > summary")), says("#mail-1-text", "Course changed in Mechanics"))
	s.catcher.get(nil, []ui.Hook{hookOf(id, 3, 204)})
	run("another webhook", says("#part-hook", "try 2"))
	if open, same := ask[bool](t, ctx, `document.getElementById("mail-1-text").open`), ask[bool](t, ctx, `window.marked === true`); !open || !same {
		t.Errorf("text still open: %v; same page: %v", open, same)
	}
	shoot(t, ctx, "told")

	// Keyboard alone: the newest event again.
	run("by keyboard", chromedp.Focus(chromedp.CSS(`button[value="again"]`)), chromedp.KeyEvent("\r"), says("#story", "told nobody twice"))
	if focused := ask[string](t, ctx, `document.activeElement.value`); focused != "again" {
		t.Errorf("the focus went to %q", focused)
	}

	// Another event, and back by the browser's own button.
	run("another", chromedp.Click(chromedp.CSS(`button[value="other"]`)), says("#part-summary", "Something <else>"))
	run("and back", chromedp.NavigateBack(), says("#part-summary", "Henrik moves the exam"))

	// Narrow, and dark: nothing is wider than the screen.
	for _, width := range []int64{320, 700} {
		run("a narrow screen", chromedp.EmulateViewport(width, 900), scheme("dark"))
		if over := ask[float64](t, ctx, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
			t.Errorf("at %d the page is %v too wide", width, over)
		}
		shoot(t, ctx, fmt.Sprintf("dark-%d", width))
	}
}

// What the colours promise: text on its ground has the contrast WCAG AA asks
// for, in light and dark.
func TestContrast(t *testing.T) {
	s := serve(t)
	id, to := s.press(t, "course")
	s.house.plan(id)
	s.catcher.get([]ui.Mail{mailOf(id, 1)}, []ui.Hook{hookOf(id, 2, 204), hookOf(id, 3, 503)})
	ctx := browser(t)
	for _, name := range []string{"light", "dark"} {
		if err := chromedp.Do(ctx, scheme(name), chromedp.Navigate(s.URL+to), chromedp.WaitVisible(chromedp.CSS("#part-hook"))); err != nil {
			t.Fatal(err)
		}
		for _, low := range ask[[]string](t, ctx, contrast) {
			t.Errorf("%s: %s", name, low)
		}
	}
}

// ask evaluates an expression in the page.
func ask[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// scheme makes the page believe that the reader likes light or dark.
func scheme(name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return err
	})
}

// contrast lists elements with words of their own whose contrast is below 4.5.
const contrast = `(() => {
  const parse = (c) => c.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = (el) => {
    for (; el; el = el.parentElement) {
      const c = parse(getComputedStyle(el).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const low = new Set();
  for (const el of document.querySelectorAll("body *")) {
    if (![...el.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || el.matches(":disabled, noscript, script")) continue;
    const [a, b] = [light(parse(getComputedStyle(el).color)), light(ground(el))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) low.add(el.tagName + "." + el.className + " " + el.textContent.trim().slice(0, 40) + ": " + ratio.toFixed(2));
  }
  return [...low];
})()`
