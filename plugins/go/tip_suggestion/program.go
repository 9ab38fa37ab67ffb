package main

import "sglhost"

func init() {
	sglhost.Program("tip_suggestion", "Expands two tips for staying healthy at the same time, then sums them up.",
		tipSuggestion)
}

func main() {}

func tipSuggestion(s *sglhost.State, _ struct{}) (any, error) {
	s.Assistant("Here are two tips for staying healthy: " +
		"1. Balanced Diet. 2. Regular Exercise.\n\n")

	// Nothing waits in this loop: both tips are generated at the same time.
	forks := s.Fork(2)
	for i, f := range forks {
		f.Assistant("Now, expand tip ", i+1, " into a paragraph:\n",
			sglhost.Gen("detailed_tip", sglhost.MaxTokens(256), sglhost.Stop("\n\n")))
	}

	s.Assistant("Tip 1:", forks[0].Get("detailed_tip"), "\n")
	s.Assistant("Tip 2:", forks[1].Get("detailed_tip"), "\n")
	s.Assistant("To summarize the above two tips, I can say:\n", sglhost.Gen("summary", sglhost.MaxTokens(512)))
	return nil, nil
}
