package belfry

import "strings"

// KindScript is the kind of channels that run a program.
const KindScript = "script"

// How often a script is run.
const (
	PerEvent     = "event"     // once
	PerRecipient = "recipient" // once for each of them
)

const scriptPrefix = "script:"

// ScriptAddress is the address of a delivery that runs a script, for one
// recipient unless who is empty. No endpoint and no mailbox looks like it.
func ScriptAddress(script, who string) string {
	if who == "" {
		return scriptPrefix + script
	}
	return scriptPrefix + script + " " + who
}

// ScriptOf is the script that an address is of, when it is one's.
func ScriptOf(address string) (script string, ok bool) {
	rest, ok := strings.CutPrefix(address, scriptPrefix)
	script, _, _ = strings.Cut(rest, " ")
	return script, ok
}

// RunsScript reports whether the delivery runs the script that is its channel.
func (d *Delivery) RunsScript() bool {
	script, ok := ScriptOf(d.Address)
	return ok && script == d.Channel
}
