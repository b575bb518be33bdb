// Package ui is the pages: server-rendered HTML that works without scripts and
// is improved by one small module, with its own embedded assets. For now it
// holds one page, the demonstration (Demo): buttons that make something happen
// in a small school, and beside them what everybody got: inbox, mail, webhook,
// and the trace that says who was told, who was not, and why.
//
// It promises: semantic HTML, light and dark, narrow screens, keyboard and
// screen readers (WCAG 2.2 AA); nothing is loaded from elsewhere and a strict
// Content-Security-Policy says so; mails are shown in a sandboxed frame of
// their own; a form that another site sends is refused; live streams are
// bounded.
//
// It refuses to know the store or the pipeline: what it reads and does is in
// the interfaces of house.go. Tests run it with a hand-written house over
// HTTP and in a real browser.
package ui
