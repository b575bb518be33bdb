package channel

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

// Settings that all kinds have that send to addresses: what the provider of
// an account allows.
const (
	settingPerSecond = "max_per_second"
	settingPerDay    = "max_per_day"
)

var limits = []Setting{
	{Name: settingPerSecond, Label: "Messages a second", Type: TypeNumber,
		Help: "No more are sent, over all processes of the service; others wait their turn. 0 or empty = no limit."},
	{Name: settingPerDay, Label: "Messages a day", Type: TypeNumber,
		Help: "No more are sent from midnight to midnight UTC, over all processes of the service; others wait for the next day. 0 or empty = no limit."},
}

// Limits are what an account's provider allows, or the server one tenant of what
// all share; 0 = no limit. At most one of PerSecond and PerMinute is set.
type Limits struct {
	PerSecond int
	PerMinute int
	PerDay    int
}

// Pace is how many may be sent within which short time; 0 = any number.
func (l Limits) Pace() (n int, within time.Duration) {
	if l.PerMinute > 0 {
		return l.PerMinute, time.Minute
	}
	return l.PerSecond, time.Second
}

// All are the settings of a kind: its own, and those that all of its like have.
func (k *Kind) All() []Setting {
	if k.Contact == "" || k.New == nil {
		return k.Settings
	}
	return slices.Concat(k.Settings, limits)
}

// Split takes apart values that passed Validate for All: what New is given, and
// the limits.
func (k *Kind) Split(values map[string]string) (own map[string]string, l Limits) {
	own = maps.Clone(values)
	number := func(name string) int {
		n, err := strconv.Atoi(values[name])
		if err != nil {
			n = 0 // empty
		}
		delete(own, name)
		return n
	}
	if len(k.All()) > len(k.Settings) {
		l = Limits{PerSecond: number(settingPerSecond), PerDay: number(settingPerDay)}
	}
	return own, l
}
