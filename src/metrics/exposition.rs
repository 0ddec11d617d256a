//! The two texts that scrapers read: OpenMetrics, and Prometheus' own, which is older and read by everything.
//!
//! They differ in what a counter is called where its type is told, in two kinds of comment, and in the end.

/// In which of its texts a scraper wants the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>, version 1.0.0.
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.
    Prometheus,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Makes a whole text of families that are written as OpenMetrics has them.
    pub(super) fn finish(self, mut families: String) -> String {
        match self {
            Self::OpenMetrics => {
                families.push_str("# EOF\n");
                families
            }
            Self::Prometheus => to_prometheus(&families),
        }
    }
}

fn to_prometheus(families: &str) -> String {
    let mut text = String::with_capacity(families.len());
    // The help comes first, and the type after it says what the family is called.
    let mut help = None;
    for line in families.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            if let Some((_, help)) = help.take() {
                text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_keep_their_whole_name_in_the_older_text() {
        let families = "# HELP a_b Bs.\n# TYPE a_b counter\na_b_total{x=\"#\"} 1\n\
                        # HELP v Version.\n# TYPE v info\nv_info{version=\"1\"} 1\n\
                        # HELP t_seconds Time.\n# TYPE t_seconds gauge\n# UNIT t_seconds seconds\nt_seconds 0.5\n";
        let expected = "# HELP a_b_total Bs.\n# TYPE a_b_total counter\na_b_total{x=\"#\"} 1\n\
                        # HELP v_info Version.\n# TYPE v_info gauge\nv_info{version=\"1\"} 1\n\
                        # HELP t_seconds Time.\n# TYPE t_seconds gauge\nt_seconds 0.5\n";
        assert_eq!(Format::Prometheus.finish(families.to_owned()), expected);
        assert_eq!(Format::OpenMetrics.finish(families.to_owned()), format!("{families}# EOF\n"));
        assert_eq!(Format::Prometheus.finish(String::new()), "");
    }
}
