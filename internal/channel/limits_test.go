package channel_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/channel"
)

// feature: S3-20
func TestLimitsAreSettingsOfKindsThatSendToAddresses(t *testing.T) {
	opens := func(channel.Deps, map[string]string) (channel.Sender, error) { return nil, nil }
	given := map[string]string{"from": "a@b.example", "max_per_second": "3", "max_per_day": "1000"}
	for name, c := range map[string]struct {
		kind   channel.Kind
		values map[string]string
		valid  bool
		own    map[string]string
		want   channel.Limits
	}{
		"both":     {channel.Kind{Contact: "email", Settings: settings[1:2], New: opens}, given, true, map[string]string{"from": "a@b.example"}, channel.Limits{PerSecond: 3, PerDay: 1000}},
		"none":     {channel.Kind{Contact: "email", New: opens}, map[string]string{"max_per_day": "", "max_per_second": "0"}, true, map[string]string{}, channel.Limits{}},
		"negative": {channel.Kind{Contact: "email", New: opens}, map[string]string{"max_per_day": "-1"}, false, nil, channel.Limits{}},
		"fraction": {channel.Kind{Contact: "email", New: opens}, map[string]string{"max_per_second": "0.5"}, false, nil, channel.Limits{}},
		"endpoint": {channel.Kind{New: opens}, map[string]string{"max_per_day": "1"}, false, nil, channel.Limits{}},
		"row":      {channel.Kind{Contact: "inbox"}, map[string]string{"max_per_day": "1"}, false, nil, channel.Limits{}},
	} {
		err := channel.Validate(c.kind.All(), c.values)
		if (err == nil) != c.valid {
			t.Errorf("%s: %v", name, err)
		}
		if !c.valid {
			continue
		}
		own, limits := c.kind.Split(c.values)
		if diff := cmp.Diff(c.own, own); diff != "" || limits != c.want {
			t.Errorf("%s: %+v %s", name, limits, diff)
		}
	}
}
