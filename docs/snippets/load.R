# Load the tidy judgments of a campaign and compute percent agreement by data set, as in section 7 of the report.
# Rscript docs/snippets/load.R judgments.csv        (base R, no package needed)

judgments <- read.csv(commandArgs(trailingOnly = TRUE)[1], na.strings = "", stringsAsFactors = FALSE)
labels <- subset(
  judgments,
  action == "label" & tolower(standing) == "true" & kind != "gold" & (is.na(arm) | arm != "shown")
)

# Of all pairs of labels of one item, the share that agree; NA for a single label.
of_item <- function(given) {
  if (length(given) < 2) return(NA_real_)
  pairs <- combn(given, 2)
  mean(pairs[1, ] == pairs[2, ])
}

items <- aggregate(label ~ dataset + item, data = labels, FUN = of_item)
items <- items[!is.na(items$label), ]
result <- aggregate(label ~ dataset, data = items, FUN = function(x) c(percent_agreement = mean(x), n = length(x)))
result <- do.call(data.frame, result)
names(result) <- c("dataset", "percent_agreement", "n")
print(result, row.names = FALSE)
